"""Redis: the connection, the scripts, and here the keys. Nothing else speaks to Redis.

The keys, all with a TTL but what is ruled by hand for good, all but the last written by the scripts in `lua/` (`<s>` is
a number's shard, `<h>` its keyed hash):

`{v<s>}:ver_…` (hash)
    A verification. Small values, so that Redis keeps it in its compact form: `app` `status` `created` `expires`
    `ended` (ms of Redis' clock), `checks` (allowed) `spent` (taken) `wrong` (settled) `spending` (when last taken),
    `sends` (allowed) `sent` (used) `resend` (when the next is allowed), `plan` `step` `try` `wait` `until` (the
    cascade and where it is) `asked` (who refused in this step), `n` (the current delivery), `d<n>` (a delivery in
    eight words), `m<n>` (a keyed hash of the provider's message id), `f<n>` (that id itself, where the provider wants
    to hear of approvals), `t<k>` `notes` (the timeline), `number` (the keyed hash), `bind` (a keyed hash of own code
    and transaction), `country` `purpose` `locale`, `feedback` `own` `test`, `ask` (the guard is asked before the
    current delivery goes out), `events` (whether they are wanted); the hashed `code`; and sealed, bound to the id:
    `to` (the masked number and its range), `meta` (the caller's metadata), `guard` (what was charged for it),
    `secret` (number and code) and `extra` (what else the text needs). The last three, `code` and `bind` go when the
    verification ends. It lives for twice its TTL.
`{v<s>}:number:<h>:<application>` (string)
    The id of the number's latest verification. Lives as long as that.
`{v<s>}:rates:<h>` (hash)
    The number's rate limits: a theoretical arrival time for each. Lives until the last of them has passed.
`{v<s>}:known:<h>` (hash)
    What the guard knows of a number: `f` when its burst is whole, `u` sends that came to nothing, `t` as of when, `m`
    sends and `a` approvals that fade, `b` its first approval, `l` its last. Lives while it is trusted, or a week.
`{v<s>}:hand:<h>` (string)
    A number's mark by hand, `trust` or `deny`, with author and reason sealed. Lives for as long as it was made for.
`{v<s>}:wrong:<h>:<application>` (string)
    Wrong guesses since the first of them. Lives for a day.
`{v<s>}:shut:<h>` (hash)
    The channels on which the number cannot be reached, each with the reason and until when (ms): for a day what a
    failure told of the recipient, for years what the person said (`service.optout`). Lives until the last of them.
`{v<s>}:idem:<f>` (list)
    The first answer to an idempotent request. `{i:<f>}:claim` (string) binds the key to its body. Both live for a day.
    The nonce of a webhook whose signature leaves its body out is bound in the same way, for two days.
`{v<s>}:due` (sorted set)
    The jobs: ids of verifications by the time of their next waking. A claimed job is one whose time was moved by the
    lease. An id leaves it when its verification ends; each start gives the set two days more.
`{g:<country>}:country`, `:block3:<digits>`, `:block4:<digits>`, `:range:<digits>`, `{c:<f>}:ip`, `:device` (hashes)
    Buckets of the guard, addresses and devices by a keyed hash: `w` exposure, `t` as of when, `h` approvals, `m` `n`
    sends (in the long run, recently), `s` sends since the last approval, `f` seen first, `l` the country approved last,
    `b` the block of ten thousand approved last, `p` `q` the number that was sent to last and when (36 bits of a keyed
    hash of each), `u` a bound on what counts as history. Each lives for its `guard.rules.keep`. `{…}:pending` (sorted
    set) are reservations by when they lapse.
`{g:<country>}:hand` (hash), `:blocked`, `:ranges` (sorted sets)
    Rules by hand by their prefix; for those who look, what has no room by until when, ranges by when they were used.
`{b:<owner>}:spent` (hash), `{l:<f>}:rates` (hash)
    Budgets: window and millionths for each, for two days. Limits of what is no number, as `rates`.
`{d:<decision>}:decision` (string)
    A decision, sealed. Lives for a week.
`{changes}:stream` (stream)
    What was changed by hand; the last ten thousand.
`{r:<application>}:verifications`, `:decisions` (lists)
    For the console: the latest ids of each, the latest first. Live for a week after the last.
`{v<s>}:outbox` (stream)
    What happened to verifications of applications that want events, until a relay has moved it: a copy of the fields
    that tell of it, sealed ones as they are. Capped; lives for two days after the last. `{v<s>}:relay` (string) is the
    lease of the relay that moves it, for seconds.
`{e:<application>}:events` (stream)
    The application's events, sealed and bound to their ids. Capped; lives for three days after the last, and no event
    longer than that. `{e:<application>}:moved` (hash) is the last entry of each shard's outbox that is in it.
`{e:<application>}:lines` (sorted set)
    The verifications whose events wait to be posted, by when the first is due; `{e:<application>}:line:ver_…` (list)
    has the events of one in order, sealed, `{e:<application>}:tries` (hash) how often the first of each has failed. All
    live for two days after the last.
`{p:<provider>:<channel>}:circuit` (hash)
    A circuit breaker: `taken` and `failed` sends `since` a time, the `pause` (ms, 0 while closed) `until` when. Lives
    for ten minutes after the last word about it.
`{w:<provider>:<channel>:<country>}:waits` (hash)
    How long receipts took: counts `b<k>` of a histogram that fades with a half-life, as of `at`. Lives for a day.
`{s:<application>}:<dimension>:<hour>:<part>` (hash)
    What was counted in an hour (since 1970), `country`, `channel` and `provider` in one part, `prefix` in eight by a
    checksum: from each value to its amounts, in the order of `service.stats.Amounts`, without zeros at their end.
    Lives for 31 days.
`{m:<f>}:<provider>` (hash)
    Whose `delivery` a provider's message is, by a keyed hash of the provider's own id for it, where its receipts name
    nothing else; lives for two days. `early<n>` are receipts that came before; they wait for a minute.
`verifyd:inbox` (hash)
    The messages that the simulator took, for an hour after the latest: `last` (the id of the latest), `m<id>` (a
    message, sealed), `s<id>` (when it came, whether its script still reports on it, and its status).
`verifyd:probe` (string)
    What `/readyz` writes to see that Redis takes writes. Lives for a second.
"""

from service.store.connection import connect
from service.store.pipelines import Store
from service.store.scripts import Act, Field, Script

__all__ = ["Act", "Field", "Script", "Store", "connect"]
