"""A site of Django in one file."""

import asyncio
import os

from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

import django_settings  # noqa: F401  (configures Django before its modules are imported)


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
