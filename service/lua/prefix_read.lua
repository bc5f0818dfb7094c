-- The rule by hand for a number: that of its longest prefix that has one.
-- NEEDS clock hand
-- KEYS 1 hand rules
-- ARGV 1 the number's digits
-- Answers: ruled; `hand` is the prefix and the action (allow or block), missing where there is no rule.
local answer = {'ruled', 0}
local rule = by_hand(KEYS[1], ARGV[1], clock())
if rule then
  answer[3], answer[4] = 'hand', rule
end
return answer
