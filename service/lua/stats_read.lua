-- Tells what was counted in an hour of an application, by one dimension.
-- KEYS the hashes of that dimension
-- ARGV none
-- Answers: values, each with its amounts in the order in which they were added; one may be there more than once.
local answer = {}
for _, key in ipairs(KEYS) do
  for _, word in ipairs(redis.call('HGETALL', key)) do answer[#answer + 1] = word end
end
return answer
