-- Gives the events of an application from a place in its stream on.
-- KEYS 1 the stream
-- ARGV 1 the first id that may be among them  2 how many at most
-- Answers: for each its id in the stream and itself.
local answer = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  answer[#answer + 1] = entry[1]
  answer[#answer + 1] = entry[2][2]
end
return answer
