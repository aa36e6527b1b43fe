"""Views that between them use what a WSGI server has to get right."""

import hashlib

from django.conf import settings
from django.http import FileResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import get_valid_filename

from .forms import ContactForm


def whoami(request, name):
    """What Django made of the environ."""
    return JsonResponse(
        {
            "name": name,
            "method": request.method,
            "scheme": request.scheme,
            "secure": request.is_secure(),
            "host": request.get_host(),
            "path": request.path,
            "query": request.GET.dict(),
            "absolute": request.build_absolute_uri(),
            "agent": request.headers.get("User-Agent"),
            "remote": request.META["REMOTE_ADDR"],
            "protocol": request.META["SERVER_PROTOCOL"],
            "admin": reverse("admin:index"),
        }
    )


def contact(request):
    """A form under CSRF protection; redirects when it is right."""
    form = ContactForm(request.POST or None)
    if form.is_valid():
        request.session["name"] = form.cleaned_data["name"]
        return HttpResponseRedirect("thanks/")
    return render(request, "notes/contact.html", {"form": form})


def thanks(request):
    """What the session remembers of the form."""
    return JsonResponse({"name": request.session.get("name")})


def upload(request):
    """Stores a file, tells what arrived."""
    if request.method != "POST":
        return render(request, "notes/upload.html")
    given = request.FILES["file"]
    digest = hashlib.sha256()
    settings.MEDIA_ROOT.mkdir(parents=True, exist_ok=True)
    name = get_valid_filename(given.name)
    with open(settings.MEDIA_ROOT / name, "wb") as out:
        for chunk in given.chunks():
            digest.update(chunk)
            out.write(chunk)
    return JsonResponse(
        {
            "name": given.name,
            "stored": name,
            "size": given.size,
            "sha256": digest.hexdigest(),
            "kind": type(given).__name__,
            "note": request.POST["note"],
        }
    )


def download(request, name):
    """A stored file; Django hands it to wsgi.file_wrapper."""
    return FileResponse(open(settings.MEDIA_ROOT / get_valid_filename(name), "rb"))


def stream(request, lines):
    """As many lines, one block each."""
    return StreamingHttpResponse(
        (f"line {number}\n" for number in range(lines)), content_type="text/plain"
    )


def stream_raises(request):
    """A response that breaks off in the middle."""

    def blocks():
        yield "first\n"
        raise ArithmeticError("django stream broke")

    return StreamingHttpResponse(blocks(), content_type="text/plain")


def raises(request):
    """The ordinary programming error."""
    raise ZeroDivisionError("django view broke")
