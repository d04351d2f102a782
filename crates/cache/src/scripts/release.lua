-- KEYS[1] cell  ARGV writer id.  Answers 1, or 0 if the fence had been lost before.
local id = ARGV[1]
local cell = redis.call('GET', KEYS[1])
local others, held = '', 0
if cell and cell:sub(1, 1) == 'F' then
  for at = 2, #cell, #id do
    local other = cell:sub(at, at + #id - 1)
    if other == id then held = 1 else others = others .. other end
  end
end
if others == '' then
  redis.call('DEL', KEYS[1])
elseif held == 1 then
  redis.call('SET', KEYS[1], 'F' .. others, 'KEEPTTL')
end
return held
