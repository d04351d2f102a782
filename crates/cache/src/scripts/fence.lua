-- KEYS[1] cell  ARGV writer id, milliseconds.  Answers with the number of writers behind the fence.
local id, ms = ARGV[1], tonumber(ARGV[2])
local cell = redis.call('GET', KEYS[1])
local ids = ''
if cell and cell:sub(1, 1) == 'F' then
  ms = math.max(ms, redis.call('PTTL', KEYS[1]))
  for at = 2, #cell, #id do
    local other = cell:sub(at, at + #id - 1)
    if other ~= id then ids = ids .. other end
  end
end
ids = ids .. id
redis.call('SET', KEYS[1], 'F' .. ids, 'PX', ms)
return math.ceil(#ids / #id)
