"""What Lambda itself puts into an execution environment: its variables and its module search path."""

from __future__ import annotations

import os
import sys
import sysconfig
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from local.application import Function

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def environment_variables(function: Function, provided: Mapping[str, str], runtime_api: str) -> dict[str, str]:
    """Exactly the variables a function sees.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime: a few have
    defaults that the template may override (time zone, language, PATH), the rest are Lambda's. `provided` are those
    of the account (region, credentials, endpoint).
    """
    executables: list[Path | str] = [Path(sys.executable).parent, "/usr/local/bin", "/usr/bin", "/bin"]
    executables += [layer / "bin" for layer in function.layers if (layer / "bin").is_dir()]
    return {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": os.pathsep.join(map(str, executables)),
        "PYTHONUNBUFFERED": "1",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        **function.environment,
        **provided,
        "_HANDLER": function.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{PYTHON}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}",
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "LAMBDA_TASK_ROOT": str(function.code),
        "LAMBDA_RUNTIME_DIR": sysconfig.get_path("purelib"),
    }


def module_path(function: Function) -> list[Path]:
    """The function's code, then its layers: `python/` of a built layer, the directory itself of a source layer.

    https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
    """
    path = [function.code]
    for layer in function.layers:
        built = layer / "python"
        path += [built, built / "lib" / PYTHON / "site-packages"] if built.is_dir() else [layer]
    return path
