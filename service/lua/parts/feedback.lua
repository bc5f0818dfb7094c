-- Adds to an answer what the providers that want to hear of a code's use are told: by which ids they know its messages and,
-- sealed, the number. It is for this answer alone: what is remembered of one must not keep a number longer.
local function hearers(r, v, secret)
  local before = #r
  for n = 0, v.f.n do give(r, v, {'f' .. n}) end
  if secret and #r > before then
    r[#r + 1] = 'secret'
    r[#r + 1] = secret
  end
  return r
end
