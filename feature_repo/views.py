"""The feature views of the flights example.

`ml_assets/defs/flights/feature_views/` computes what is declared here. A row's `event_timestamp` is the moment at which
its values were true, and windows end there; `created_timestamp` is when the newest file behind it landed.
"""

from datetime import timedelta

from entities import aircraft, carrier, dest, origin
from feast import Entity, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.types import Float64, String, UnixTimestamp

from ml_assets.features.declaring import lake_table
from ml_assets.features.on_demand import on_demand_view

OWNER = "team:operations"
FOREVER = timedelta(0)  # Feast's spelling; None is stored as zero, and every later plan would show it as a change


def feature_view(
    name: str,
    entities: list[Entity],
    ttl: timedelta,
    description: str,
    features: dict[str, str],
    tags: dict[str, str],
    *,
    pushed_by: str = "",
) -> FeatureView:
    """Return a view over the lake table of the same name, whose `features` (name to description) are all Float64.

    With `pushed_by`, rows may also be pushed to the push source of that name, between the files.
    """
    table = FileSource(
        name=name,
        path=lake_table(name, __file__),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=f"Lake table features/{name}.",
        owner=OWNER,
    )
    keys = [Field(name=entity.join_key, dtype=String, description=entity.description) for entity in entities]
    fields = [Field(name=feature, dtype=Float64, description=text) for feature, text in features.items()]
    return FeatureView(
        name=name,
        entities=entities,
        ttl=ttl,
        schema=[*keys, *fields],
        source=PushSource(name=pushed_by, batch_source=table, owner=OWNER) if pushed_by else table,
        description=description,
        owner=OWNER,
        tags=tags,
    )


origin_weather = feature_view(
    "origin_weather",
    [origin],
    timedelta(hours=6),
    "The last hourly weather observation at the airport of departure.",
    {
        "temp": "Temperature, °F.",
        "dewp": "Dew point, °F.",
        "humid": "Relative humidity, %.",
        "wind_dir": "Wind direction, degrees.",
        "wind_speed": "Wind speed, mph.",
        "wind_gust": "Speed of gusts, mph; null when there were none.",
        "precip": "Precipitation, inches.",
        "pressure": "Sea level pressure, millibars.",
        "visib": "Visibility, miles.",
    },
    {"kind": "weather"},
    pushed_by="weather_reports",  # stations report more often than the daily file comes
)

origin_congestion = feature_view(
    "origin_congestion",
    [origin],
    timedelta(hours=12),
    "How departures at the airport went in the last one and three hours.",
    {
        "origin_dep_delay_mean_1h": "Mean departure delay in the last hour, minutes.",
        "origin_dep_late_share_1h": "Share of late departures in the last hour, 0 to 1.",
        "origin_departures_1h": "Departures in the last hour.",
        "origin_dep_delay_mean_3h": "Mean departure delay in the last three hours, minutes.",
        "origin_dep_late_share_3h": "Share of late departures in the last three hours, 0 to 1.",
        "origin_departures_3h": "Departures in the last three hours.",
    },
    {"kind": "history"},
)

carrier_history = feature_view(
    "carrier_history",
    [carrier],
    timedelta(days=7),
    "How the airline's departures and arrivals went in the last hours, day and week.",
    {
        "carrier_dep_delay_mean_3h": "Mean departure delay in the last three hours, minutes.",
        "carrier_dep_late_share_3h": "Share of late departures in the last three hours, 0 to 1.",
        "carrier_dep_late_share_24h": "Share of late departures in the last day, 0 to 1.",
        "carrier_arr_delay_mean_3h": "Mean arrival delay in the last three hours, minutes.",
        "carrier_arr_late_share_3h": "Share of late arrivals in the last three hours, 0 to 1.",
        "carrier_arr_late_share_7d": "Share of late arrivals in the last week, 0 to 1.",
    },
    {"kind": "history"},
)

route_history = feature_view(
    "route_history",
    [origin, dest],
    timedelta(days=30),
    "How arrivals on the route went in the last day and the last thirty.",
    {
        "route_arr_delay_mean_1d": "Mean arrival delay in the last day, minutes.",
        "route_arr_late_share_1d": "Share of late arrivals in the last day, 0 to 1.",
        "route_arr_late_share_30d": "Share of late arrivals in the last thirty days, 0 to 1.",
        "route_arrivals_30d": "Arrivals in the last thirty days.",
    },
    {"kind": "history"},
)

destination_history = feature_view(
    "destination_history",
    [dest],
    timedelta(days=2),
    "How arrivals at the airport of arrival went in the last three hours.",
    {
        "dest_arr_delay_mean_3h": "Mean arrival delay in the last three hours, minutes.",
        "dest_arr_late_share_3h": "Share of late arrivals in the last three hours, 0 to 1.",
    },
    {"kind": "history"},
)

aircraft_history = feature_view(
    "aircraft_history",
    [aircraft],
    timedelta(days=3),
    "The aircraft's last known delays and how much it flew in the last day.",
    {
        "aircraft_last_dep_delay": "Its last known departure delay, minutes.",
        "aircraft_last_arr_delay": "Its last known arrival delay, minutes.",
        "aircraft_departures_24h": "Its departures in the last day.",
    },
    {"kind": "history"},
)

airport_profile = feature_view(
    "airport_profile",
    [dest],
    timedelta(days=7),
    "Traffic, delays and weather of the airport's flights in the last four weeks, beside those of all airports of arrival.",
    {
        "airport_departures_per_day_28d": "Departures to it, a day.",
        "airport_distance_mean_28d": "Mean distance of its flights, miles.",
        "airport_cancelled_above_28d": "Share of its flights that were cancelled, less that of all, -1 to 1.",
        "airport_arr_late_above_28d": "Share of late arrivals, less that of all, -1 to 1.",
        "airport_arr_delay_above_28d": "Mean arrival delay, less that of all, minutes.",
        "airport_arr_delay_spread_above_28d": "Standard deviation of the arrival delay, less that of all, minutes.",
        "airport_poor_weather_above_28d": "Share of its flights that left in rain, snow or poor sight, less that of all, -1 to 1.",
        "airport_wind_above_28d": "Mean wind when its flights left, less that of all, mph.",
    },
    {"kind": "profile"},
)

aircraft_spec = feature_view(
    "aircraft_spec",
    [aircraft],
    FOREVER,
    "What is known of the aircraft since it was registered.",
    {
        "aircraft_seats": "Seats.",
        "aircraft_year_built": "Year of manufacture.",
    },
    {"kind": "reference"},
)

planned_flight = RequestSource(
    name="planned_flight",
    schema=[
        Field(name="event_timestamp", dtype=UnixTimestamp, description="The moment of prediction."),
        Field(name="distance", dtype=Float64, description="Distance, miles."),
        Field(
            name="scheduled_duration", dtype=Float64, description="Scheduled departure to scheduled arrival, minutes."
        ),
        Field(
            name="planned_departures", dtype=Float64, description="Departures scheduled at the airport in that hour."
        ),
    ],
    description="What whoever asks knows of the flight.",
    owner=OWNER,
)

departure_context = on_demand_view(
    name="departure_context",
    function="ml_assets.defs.flights.feature_views.request_time.departure_context",
    sources=[
        planned_flight,
        origin_congestion[["origin_departures_1h"]],
        aircraft_history[["aircraft_last_arr_delay"]],
        aircraft_spec[["aircraft_year_built"]],
    ],
    schema=[
        Field(name="planned_speed", dtype=Float64, description="Distance by scheduled duration, mph."),
        Field(
            name="departures_above_last_hour",
            dtype=Float64,
            description="Departures scheduled at the airport in the flight's hour, less those of the last hour.",
        ),
        Field(
            name="inherited_delay_share",
            dtype=Float64,
            description="The aircraft's last known arrival delay by the scheduled duration, 1 is as long as the flight.",
        ),
        Field(name="aircraft_age_years", dtype=Float64, description="Years since the aircraft's year of manufacture."),
    ],
    description="How tight the flight's plan is, how busy its airport gets, how late and how old its aircraft is.",
    owner=OWNER,
    tags={"kind": "request"},
)
