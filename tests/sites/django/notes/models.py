"""One model, so that the admin has something to add, change and delete."""

from django.db import models


class Note(models.Model):
    """A line of text."""

    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    attachment = models.FileField(upload_to="attachments", blank=True)

    def __str__(self):
        return self.title
