-- KEYS cells  ARGV for each a writer id.  Returns for each 1, or 0 if the writer was not in the fence any more.
local proof = table.remove(ARGV)
if proof ~= '' and redis.call('GET', table.remove(KEYS)) ~= proof then return false end
local held = {}
for at, key in ipairs(KEYS) do
  local id = ARGV[at]
  local cell = redis.call('GET', key)
  local others = ''
  held[at] = 0
  if cell and cell:sub(1, 1) == 'F' then
    for from = 2, #cell, #id do
      local other = cell:sub(from, from + #id - 1)
      if other == id then held[at] = 1 else others = others .. other end
    end
  end
  if others == '' then
    redis.call('DEL', key)
  elseif held[at] == 1 then
    redis.call('SET', key, 'F' .. others, 'KEEPTTL')
  end
end
return held
