"""Which features a model sees: one service per problem and version."""

from feast import FeatureService
from views import (
    OWNER,
    aircraft_history,
    aircraft_spec,
    carrier_history,
    departure_context,
    destination_history,
    origin_congestion,
    origin_weather,
    route_history,
)

flight_delay_v2 = FeatureService(
    name="flight_delay_v2",
    features=[
        origin_weather,
        origin_congestion,
        carrier_history,
        route_history,
        destination_history,
        aircraft_history,
        aircraft_spec,
        departure_context,
    ],
    description="What the flight_delay problem may know two hours before scheduled departure.",
    owner=OWNER,
    tags={"problem": "flight_delay"},
)
