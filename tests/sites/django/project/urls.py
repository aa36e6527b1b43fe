"""Where things are."""

from django.contrib import admin
from django.urls import path

from notes import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("whoami/<str:name>/", views.whoami),
    path("contact/", views.contact),
    path("contact/thanks/", views.thanks),
    path("upload/", views.upload),
    path("download/<str:name>", views.download),
    path("stream/<int:lines>/", views.stream),
    path("stream-raises/", views.stream_raises),
    path("raises/", views.raises),
]
