"""Prices that look right where they are asked."""

from __future__ import annotations

from decimal import Decimal

# Units of a currency to the euro, as a rough magnitude: it makes demo prices plausible and is no exchange rate.
UNITS_PER_EURO = {
    "AED": 4, "AMD": 450, "ARS": 1500, "AUD": 1.8, "BDT": 140, "BRL": 6, "CAD": 1.6, "CHF": 1, "CLP": 1100,
    "CNY": 8, "COP": 4500, "CRC": 600, "CZK": 25, "DKK": 7.5, "EGP": 55, "ETB": 160, "EUR": 1, "GBP": 0.9, "GEL": 3,
    "GHS": 13, "HKD": 9, "HUF": 400, "IDR": 19000, "ILS": 4, "INR": 100, "ISK": 145, "JOD": 0.8, "JPY": 170,
    "KES": 150, "KRW": 1600, "KZT": 600, "LKR": 350, "MAD": 11, "MNT": 4100, "MXN": 22, "MYR": 5, "NGN": 1700,
    "NOK": 12, "NPR": 160, "NZD": 2, "PEN": 4, "PHP": 67, "PKR": 330, "PLN": 4.3, "RON": 5, "RSD": 117, "RWF": 1700,
    "SAR": 4.3, "SEK": 11, "SGD": 1.5, "THB": 38, "TND": 3.4, "TRY": 48, "TWD": 35, "TZS": 2900, "UAH": 48,
    "UGX": 4200, "USD": 1.1, "UYU": 47, "VND": 30000, "XOF": 656, "ZAR": 20,
}  # fmt: skip


def price_in(currency: str, euros: float) -> dict[str, str]:
    """The `price` of an event, in a currency of the table above, rounded as organisers round: to two digits."""
    amount = Decimal(f"{euros * UNITS_PER_EURO[currency]:.1e}")
    return {"amount": f"{amount:.2f}", "currency": currency}
