"""The built-in console: pages on the ops listener for the people who run verifyd, and for whoever tries it out.

Written on the server, from `templates/`, without a build; a page works without JavaScript, which only keeps it current
(`assets/console.js`) and draws charts out of its tables. A strict Content-Security-Policy shuts out whatever does not
come from here, and nothing is written inline.
"""

from service.api.console.access import Access
from service.api.console.pages import ConsoleApi

__all__ = ["Access", "ConsoleApi"]
