-- Tells which blocks of a number have more than their part of the recent sends around them.
local function crowd(rules, answer, country, block3, block4, range, now, proof)
  local n3, n4, n = recent(rules, block3, now), recent(rules, block4, now), recent(rules, range, now)
  local around3 = rules.share_block3 * math.max(0, n4 - n3)
  told(answer, 'concentration3', concentrated(rules, rules.lone_block3, n3, around3, proof))
  local total = recent(rules, country, now)
  local around4 = rules.share_block4 * math.max(0, n - n4) + rules.share_country * math.max(0, total - n4)
  told(answer, 'concentration4', concentrated(rules, rules.lone_block4, n4, around4, proof))
end
