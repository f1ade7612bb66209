"""mmssl: self-supervised visual representations from video and paired modalities.

Walk the code the way a sample travels:
``shards`` (writing) -> ``stream`` (reading, views) -> ``methods`` (losses) -> ``engine`` (training)
-> ``evaluate`` -> ``report``; ``pipeline`` strings them together and ``cli`` is the front door.
"""

__version__ = "0.1.0"
