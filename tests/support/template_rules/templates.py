"""The application's template and those nested in it, as written and as CloudFormation gets them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.metrics.metrics import DummyMetricsPublisher, Metrics
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

ROOT = "template.yaml"

Sources = dict[str, dict[str, Any]]

_CODE = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}


class Resource(NamedTuple):
    """A resource with everything beside its type: `DeletionPolicy`, `Properties`, …"""

    template: str
    logical_id: str
    type: str
    body: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Any]:
        return self.body.get("Properties") or {}

    @property
    def name(self) -> str:
        return self.logical_id if self.template == ROOT else f"{self.template}:{self.logical_id}"


class Templates:
    """Each template by its path below `directory`: `sources` as written, `expanded` after SAM's transform."""

    def __init__(self, directory: Path, sources: Sources) -> None:
        self.directory = directory
        self.sources = sources

    @classmethod
    def load(cls, directory: Path) -> Templates:
        sources: Sources = {ROOT: yaml_parse((directory / ROOT).read_text())}
        for resource in sources[ROOT]["Resources"].values():
            if resource["Type"] == "AWS::CloudFormation::Stack":
                path = resource["Properties"]["TemplateURL"]
                sources[path] = yaml_parse((directory / path).read_text())
        return cls(directory, sources)

    def changed(self, change: Callable[[Sources], None]) -> Templates:
        """A copy whose sources `change` has altered."""
        sources = copy.deepcopy(self.sources)
        change(sources)
        return Templates(self.directory, sources)

    @functools.cached_property
    def expanded(self) -> Mapping[str, Mapping[str, Any]]:
        return self.sources | {ROOT: _expand(self.sources[ROOT])}

    def written(self, *types: str) -> Iterator[Resource]:
        """Resources as the files have them, of these types or of all."""
        return _resources(self.sources, types)

    def deployed(self, *types: str) -> Iterator[Resource]:
        """Resources as CloudFormation gets them, of these types or of all."""
        return _resources(self.expanded, types)


def _resources(templates: Mapping[str, Mapping[str, Any]], types: tuple[str, ...]) -> Iterator[Resource]:
    for path, template in templates.items():
        for logical_id, body in template["Resources"].items():
            if not types or body["Type"] in types:
                yield Resource(path, logical_id, body["Type"], body)


def _expand(written: dict[str, Any]) -> dict[str, Any]:
    """The template after SAM's transform, which takes code from S3 alone: the paths travel as keys of a bucket."""
    source = copy.deepcopy(written)
    for resource in source["Resources"].values():
        if path := _CODE.get(resource["Type"]):
            resource["Properties"][path] = f"s3://local/{resource['Properties'][path]}"
    defaults = {name: parameter.get("Default", "") for name, parameter in source["Parameters"].items()}
    metrics = Metrics("tests", DummyMetricsPublisher())
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"), metrics=metrics)
    try:
        expanded: dict[str, Any] = translator.translate(source, defaults)
    finally:
        metrics.publish()  # to nobody; it warns on stderr when that is left out
    return expanded


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Every (logical id, attribute) that a value takes from elsewhere; the attribute of a `Ref` is "Ref"."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "Ref":
                yield inner, "Ref"
            elif key == "Fn::GetAtt":
                logical_id, _, attribute = inner.partition(".") if isinstance(inner, str) else (inner[0], "", inner[1])
                yield logical_id, attribute
            elif key == "Fn::Sub":
                yield from _substituted(inner)
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def _substituted(value: Any) -> Iterator[tuple[str, str]]:
    text, variables = value if isinstance(value, list) else (value, {})
    yield from references(variables)
    for part in text.split("${")[1:]:
        logical_id, _, attribute = part.partition("}")[0].partition(".")
        if logical_id not in variables:
            yield logical_id, attribute or "Ref"
