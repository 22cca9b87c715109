"""Which features a model sees: one service per problem and version."""

import views
from feast import FeatureService

TWO_HOURS_BEFORE = [
    views.origin_weather,
    views.origin_congestion,
    views.carrier_history,
    views.route_history,
    views.destination_history,
    views.aircraft_history,
    views.aircraft_spec,
    views.departure_context,
]

flight_delay_v2 = FeatureService(
    name="flight_delay_v2",
    features=TWO_HOURS_BEFORE,
    description="What the flight_delay problem may know two hours before scheduled departure.",
    owner=views.OWNER,
    tags={"problem": "flight_delay"},
)

arrival_delay_v1 = FeatureService(
    name="arrival_delay_v1",
    features=TWO_HOURS_BEFORE,
    description="What the arrival_delay problem may know two hours before scheduled departure.",
    owner=views.OWNER,
    tags={"problem": "arrival_delay"},
)

airport_segments_v1 = FeatureService(
    name="airport_segments_v1",
    features=[views.airport_profile],
    description="By what the airport_segments problem groups airports of arrival.",
    owner=views.OWNER,
    tags={"problem": "airport_segments"},
)
