"""Events: an application learns what happened to its verifications without asking for each.

    a change of a verification, and its entry in the outbox of the shard      one script
    outbox > stream of the application, and the line of the verification      the relay, each entry once
    stream > `GET /events`                                                    whenever the application asks
    line > the application's URL, signed                                      the poster, until it is taken, up to a day

A relay that dies between its two scripts moves the same entries again, and the stream knows them. Events of one
verification are posted one after another: one that is not taken holds back its own verification only.
"""

from service.events.event import TYPES, Event, Type
from service.events.feed import Feed
from service.events.poster import Poster
from service.events.relay import Relay
from service.events.worker import Events

__all__ = ["TYPES", "Event", "Events", "Feed", "Poster", "Relay", "Type"]
