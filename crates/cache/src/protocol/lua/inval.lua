-- KEYS cells.  Returns for each 1 if something was deleted. A fence stays: its writers delete the cell when they release.
local proof = table.remove(ARGV)
if proof ~= '' and redis.call('GET', table.remove(KEYS)) ~= proof then return false end
local deleted = {}
for at, key in ipairs(KEYS) do
  local cell = redis.call('GET', key)
  if cell and cell:sub(1, 1) ~= 'F' then
    deleted[at] = redis.call('DEL', key)
  else
    deleted[at] = 0
  end
end
return deleted
