"""The app that workers under test are started with. The template imports it, and is armed here."""

import os

from tests.faults import launch
from tests.fixtures.ledger import HOME
from tests.fixtures.ledger_tasks import build

app = build(os.environ[HOME])
launch.arm_template()
