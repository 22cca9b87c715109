"""Which features a model sees: one service per problem and version."""

from feast import FeatureService
from views import (
    OWNER,
    aircraft_history,
    aircraft_spec,
    airport_profile,
    carrier_history,
    departure_context,
    destination_history,
    origin_congestion,
    origin_weather,
    route_history,
)

TWO_HOURS_BEFORE = [
    origin_weather,
    origin_congestion,
    carrier_history,
    route_history,
    destination_history,
    aircraft_history,
    aircraft_spec,
    departure_context,
]

flight_delay_v2 = FeatureService(
    name="flight_delay_v2",
    features=TWO_HOURS_BEFORE,
    description="What the flight_delay problem may know two hours before scheduled departure.",
    owner=OWNER,
    tags={"problem": "flight_delay"},
)

arrival_delay_v1 = FeatureService(
    name="arrival_delay_v1",
    features=TWO_HOURS_BEFORE,
    description="What the arrival_delay problem may know two hours before scheduled departure.",
    owner=OWNER,
    tags={"problem": "arrival_delay"},
)

airport_segments_v1 = FeatureService(
    name="airport_segments_v1",
    features=[airport_profile],
    description="By what the airport_segments problem groups airports of arrival.",
    owner=OWNER,
    tags={"problem": "airport_segments"},
)
