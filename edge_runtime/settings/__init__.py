"""The settings of a store's agent: `store.yaml`, loaded once, frozen, passed down."""

from edge_runtime.settings.camera import (
    CameraSettings,
    LineSettings,
    LookSettings,
    MotionSettings,
    TrackerSettings,
    ZoneSettings,
)
from edge_runtime.settings.checks import check_labels
from edge_runtime.settings.counts import CountsSettings
from edge_runtime.settings.fleet import BundleSettings, FleetSettings
from edge_runtime.settings.load import load_settings, load_task, load_with, sent_settings
from edge_runtime.settings.model import AgentSettings, EngineSettings, ModelSettings
from edge_runtime.settings.privacy import PrivacySettings
from edge_runtime.settings.problems import SettingsError
from edge_runtime.settings.recordings import ClipsSinkSettings, SnapshotsSinkSettings
from edge_runtime.settings.requests import CloudSettings, DoorSettings, OutboxSettings, RouteSettings
from edge_runtime.settings.sinks import (
    JsonlSinkSettings,
    MqttSinkSettings,
    ReportSinkSettings,
    SinkSettings,
    VideoSinkSettings,
)

__all__ = [
    "AgentSettings",
    "BundleSettings",
    "CameraSettings",
    "ClipsSinkSettings",
    "CloudSettings",
    "CountsSettings",
    "DoorSettings",
    "EngineSettings",
    "FleetSettings",
    "JsonlSinkSettings",
    "LineSettings",
    "LookSettings",
    "ModelSettings",
    "MotionSettings",
    "MqttSinkSettings",
    "OutboxSettings",
    "PrivacySettings",
    "ReportSinkSettings",
    "RouteSettings",
    "SettingsError",
    "SinkSettings",
    "SnapshotsSinkSettings",
    "TrackerSettings",
    "VideoSinkSettings",
    "ZoneSettings",
    "check_labels",
    "load_settings",
    "load_task",
    "load_with",
    "sent_settings",
]
