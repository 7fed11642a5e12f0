from tests.demo.plugin import demo_recording, demo_recordings

__all__ = ["demo_recording", "demo_recordings"]
