"""The half of an app that is about settings: where they come from, and when they are read.

What a setting is and what wins over what is the business of ``settings``. A source that is named is
read when somebody reads a setting, so that modules which import each other can do so; between the
signals ``on_configure`` and ``on_after_configure`` (APP-29).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from celeriac import imports
from celeriac.exceptions import ImproperlyConfigured
from celeriac.loaders import Loader
from celeriac.settings import Configuration, Settings
from celeriac.signals import Signal


class Configured:
    """What has settings, and a loader that finds them."""

    loader: Loader
    on_configure: Any = None
    """Signal before settings are read; a subclass may make it a method."""

    def __init__(self, namespace: str | None, silent: bool) -> None:
        self.conf = Configuration()
        self.namespace = namespace
        self.on_configure = self.on_configure or Signal("app.on_configure")
        self.on_after_configure = Signal("app.on_after_configure")
        self._source: str | None = None
        self._silent = silent
        self._defaults: list[Callable[[], Any]] = []
        self.conf.later(self._configure)

    @property
    def settings(self) -> Settings:
        """The frozen settings as they are now."""
        return self.conf.snapshot

    @property
    def configured(self) -> bool:
        """Whether settings have been read."""
        return self.conf.is_read

    def config_from_object(
        self,
        source: object,
        *,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Read settings from an object, or from the module or ``module:attribute`` named (APP-05).

        An object is read at once. What is named is imported when somebody reads a setting, or now
        with ``force``; ``silent`` ignores what is not there. ``namespace`` takes only names that
        begin with it, in upper case (APP-08). Raises ImproperlyConfigured.
        """
        self.namespace = namespace if namespace is not None else self.namespace
        self._silent = silent
        was_read = self.conf.is_read
        if not isinstance(source, str):
            self.conf.load(source, namespace=self.namespace)
            source = None
        self._source = source
        self.conf.later(self._configure)
        if force or (was_read and source is not None):
            self.settings  # noqa: B018 - reading is what loads

    def config_from_envvar(
        self, variable: str, *, silent: bool = False, force: bool = False
    ) -> bool:
        """Read settings from the module that an environment variable names (APP-06).

        Raises ImproperlyConfigured if it is not set; with ``silent`` it returns False.
        """
        name = os.environ.get(variable)
        if name:
            self.config_from_object(name, silent=silent, force=force)
        elif not silent:
            raise ImproperlyConfigured(
                f"the environment variable {variable} is not set; set it to the module that holds "
                f"the settings, such as {variable}=proj.celeryconfig"
            )
        return bool(name)

    def config_from_cmdline(self, words: Sequence[str], namespace: str = "celery") -> None:
        """Assign settings given as ``worker.concurrency=4`` (APP-07). Raises ImproperlyConfigured."""
        self.conf.update(self.loader.cmdline_config_parser(words, namespace))

    def add_defaults(self, defaults: Any) -> Any:
        """Give settings that count where nobody else gave any (APP-12).

        A mapping, or a function that returns one, which is called when settings are read; so it
        can be a decorator.
        """
        if not callable(defaults):
            self.conf.add_defaults(defaults)
        else:
            self._defaults.append(defaults)
            self.conf.later(self._add_defaults)
        return defaults

    def _add_defaults(self) -> None:
        while self._defaults:
            self.conf.add_defaults(self._defaults[0]())
            del self._defaults[0]

    def _configure(self) -> None:
        """Read the source that was put off, and tell of it (APP-29)."""
        configure = self.on_configure
        configure() if not isinstance(configure, Signal) else configure.send(sender=self)
        source, name = self._source, ""
        if source is None:
            source = self.loader.read_configuration() if not self.conf.has_source else None
        else:
            name = str(source)
            source = self.loader.config_source(name, silent=self._silent)
        if source is not None:
            self.conf.load(source, namespace=self.namespace, source_name=name or None)
        self._add_defaults()
        self.on_after_configure.send(sender=self, source=self.conf)

    def setup_security(self, *args: Any, **options: Any) -> None:
        """Sign and verify messages with X.509 certificates (APP-13).

        Takes ``allowed_serializers``, ``key``, ``key_password``, ``cert``, ``store``, ``digest`` and
        ``serializer``; what is left out is as the ``security_*`` settings say. Raises
        ImproperlyConfigured.
        """
        imports.load("celeriac.security:setup_security")(self, *args, **options)
