-- Settles an attempt that check_spend took. `undo` gives it back.
-- NEEDS clock verification life number idempotency feedback
-- KEYS 1 the verification  2 due  3... idempotency records
-- ALSO the number's wrong guesses, what is known of the number
-- ARGV 1 right | wrong | undo  2 fingerprints, one for each record  3 idempotency TTL ms
--      4 the guard's rules for numbers (JSON; '' for off)
-- Answers: right (approved by this; with what its providers are told), wrong, over (it had ended meanwhile), undone, gone, conflict.
local now = clock()
local v = open(KEYS[1], KEYS[2])
if not v then return {'gone', 0} end
local past, record = remembered(3, ARGV[2])
if past and past[1] ~= 'taken' then return past end
-- of several who share an attempt, the one who takes the mark away gives it back
if ARGV[1] == 'undo' and KEYS[3] and not past then return {'gone', 0} end
if past then redis.call('DEL', record) end
local secret = v.f.secret
local outcome = ({right = 'right', wrong = 'wrong', undo = 'undone'})[ARGV[1]]
if outcome ~= 'wrong' and tonumber(redis.call('GET', wrong_key(v)) or 0) > 0 and not v.f.test then
  redis.call('DECR', wrong_key(v))
end
if outcome == 'undone' then
  put(v, 'spent', num(v, 'spent') - 1)
elseif lapse(v, now) or not alive(v) then
  outcome = 'over'
elseif outcome == 'right' then
  finish(v, now, 'approved')
  if ARGV[4] ~= '' and not v.f.test then approve(cjson.decode(ARGV[4]), known_key(v.tag, v.f.number), now) end
else
  put(v, 'wrong', num(v, 'wrong') + 1)
  note(v, now, 'check.wrong')
  if num(v, 'wrong') >= num(v, 'checks') then finish(v, now, 'max_attempts_reached') end
end
save(v)
local answer = reply(outcome, now - num(v, 'created'), v)
if outcome ~= 'undone' then remember(3, ARGV[2], ARGV[3], answer) end
return outcome == 'right' and hearers(answer, v, secret) or answer
