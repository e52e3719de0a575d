"""Recipes and systems on another device: on_another_device.py, in a process of its own."""
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_stand_in import AVAILABLE


@pytest.mark.skipif(not AVAILABLE, reason="this PyTorch is too old for a device made in Python")
def test_everything_moves_to_another_device():
    file = Path(__file__).with_name("on_another_device.py")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
