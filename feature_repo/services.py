"""Which features a model sees: one service per problem and version."""

from feast import FeatureService
from views import (
    OWNER,
    aircraft_history,
    aircraft_spec,
    carrier_history,
    destination_history,
    origin_congestion,
    origin_weather,
    route_history,
)

flight_delay_v1 = FeatureService(
    name="flight_delay_v1",
    features=[
        origin_weather,
        origin_congestion,
        carrier_history,
        route_history,
        destination_history,
        aircraft_history,
        aircraft_spec,
    ],
    description="What the flight_delay problem may know two hours before scheduled departure.",
    owner=OWNER,
    tags={"problem": "flight_delay"},
)
