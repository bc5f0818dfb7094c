-- What the caller learned of a code. It ends a verification only where the code was the caller's own to check.
-- NEEDS clock verification life number feedback
-- KEYS 1 the verification  2 due
-- ALSO what is known of the number
-- ARGV 1 application  2 converted | unconverted  3 the guard's rules for numbers (JSON; '' for off)
-- Answers: noted (new; of a code of the caller's with what its providers are told), known (said before), gone. The number is the ms since the verification started.
local now = clock()
local v = open(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
lapse(v, now)
local outcome, secret, guard = 'known', v.f.secret, nil
local told = not v.f.own or v.f.status == 'approved'
if v.f.feedback ~= ARGV[2] then
  outcome = 'noted'
  put(v, 'feedback', ARGV[2])
  note(v, now, 'feedback.' .. ARGV[2])
  if v.f.own and alive(v) and ARGV[2] == 'converted' then
    guard = v.f.guard
    finish(v, now, 'approved', 'feedback')
    if ARGV[3] ~= '' and not v.f.test then approve(cjson.decode(ARGV[3]), known_key(v.tag, v.f.number), now) end
  end
end
save(v)
v.f.guard = guard -- for the caller, whose approval this is
local answer = give(reply(outcome, now - num(v, 'created'), v), v, {'guard'})
return outcome == 'noted' and not told and hearers(answer, v, secret) or answer
