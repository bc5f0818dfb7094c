-- Marks a number by hand, or takes its mark away.
-- KEYS 1 its mark
-- ARGV 1 the mark: action, author and reason (sealed); '' to take it away  2 how long it holds (ms, 0 for ever)
-- Answers: marked, unmarked, gone (there was none).
if ARGV[1] == '' then return {redis.call('DEL', KEYS[1]) == 1 and 'unmarked' or 'gone', 0} end
redis.call('SET', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {'marked', 0}
