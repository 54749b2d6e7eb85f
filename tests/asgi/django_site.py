"""A site of Django in one file."""

import asyncio
import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    FILE_UPLOAD_MAX_MEMORY_SIZE=100_000,
    DATA_UPLOAD_MAX_MEMORY_SIZE=10_000_000,
)
django.setup()


def plain(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"], "secure": request.is_secure(), "path": request.path})


async def later(request):
    await asyncio.sleep(0)
    return HttpResponse(f"later {request.GET['q']}")


def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": request.POST["name"], "size": sum(map(len, file.chunks()))})


async def stream(request):
    async def parts():
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts())


def file(request):
    return FileResponse(open(os.path.abspath(__file__), "rb"))  # the answer closes it


def broken(request):
    raise KeyError("broken")


urlpatterns = [
    path("", plain),
    path("later", later),
    path("upload", upload),
    path("stream", stream),
    path("file", file),
    path("broken", broken),
]
application = get_asgi_application()
