-- KEYS cells  ARGV for each a token, milliseconds.  Returns for each the cell, or nil: the caller now holds the lease.
-- A script, because Redis does not track the read of SET NX GET when the key exists.
local proof = table.remove(ARGV)
if proof ~= '' and redis.call('GET', table.remove(KEYS)) ~= proof then return false end
local found = {}
for at, key in ipairs(KEYS) do
  local cell = redis.call('GET', key)
  if not cell then redis.call('SET', key, 'L' .. ARGV[2 * at - 1], 'PX', ARGV[2 * at]) end
  found[at] = cell
end
return found
