"""Queues, exchanges and priorities that Celery and Celeriac declare on one RabbitMQ, in either order.

RabbitMQ refuses (406) what is declared in another way than it is there, and closes the channel.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.fleet import OURS, THEIRS, Fleet, fleet
from tests.fixtures.fleet_ledger import FleetLedger
from tests.fixtures.gate import Gate
from tests.fixtures.rabbit_host import RabbitHost
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.waiting import eventually
