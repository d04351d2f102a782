-- KEYS cells  ARGV for each a writer id, milliseconds.  Returns for each the number of writers of the fence.
local proof = table.remove(ARGV)
if proof ~= '' and redis.call('GET', table.remove(KEYS)) ~= proof then return false end
local writers = {}
for at, key in ipairs(KEYS) do
  local id, ms = ARGV[2 * at - 1], tonumber(ARGV[2 * at])
  local cell = redis.call('GET', key)
  local ids = ''
  if cell and cell:sub(1, 1) == 'F' then
    ms = math.max(ms, redis.call('PTTL', key))
    for from = 2, #cell, #id do
      local other = cell:sub(from, from + #id - 1)
      if other ~= id then ids = ids .. other end
    end
  end
  ids = ids .. id
  redis.call('SET', key, 'F' .. ids, 'PX', ms)
  writers[at] = math.ceil(#ids / #id)
end
return writers
