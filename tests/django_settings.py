"""The settings of the sites of Django in the tests. A process configures Django once, so the sites share them."""

from contextlib import contextmanager

import django
import pytest
from django.conf import settings

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    FILE_UPLOAD_MAX_MEMORY_SIZE=100_000,
    DATA_UPLOAD_MAX_MEMORY_SIZE=100_000_000,
    LOGGING_CONFIG=None,
)
django.setup()


@contextmanager
def urls(urlconf):
    """Have requests find their views in ``urlconf``: a module, or an object with ``urlpatterns``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ROOT_URLCONF", urlconf, raising=False)
        yield
