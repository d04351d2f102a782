-- KEYS[1] cell.  Answers 1 if something was deleted. A fence stays: its writers delete the cell when they release.
local cell = redis.call('GET', KEYS[1])
if not cell or cell:sub(1, 1) == 'F' then return 0 end
return redis.call('DEL', KEYS[1])
