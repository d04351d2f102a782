-- KEYS cells  ARGV for each a token or '', the cell that was read from the database, milliseconds.  Returns for each 1 if
-- it was stored. Otherwise a cell that may be older was deleted. Versions are compared as two halves: one Lua number would lose
-- digits, and strings would be compared by the server's locale.
local proof = table.remove(ARGV)
if proof ~= '' and redis.call('GET', table.remove(KEYS)) ~= proof then return false end
local stored = {}
for at, key in ipairs(KEYS) do
  local token, mine, ms = ARGV[3 * at - 2], ARGV[3 * at - 1], ARGV[3 * at]
  local cell = redis.call('GET', key)
  local kind = cell and cell:sub(1, 1)
  stored[at] = 0
  if token ~= '' and cell == 'L' .. token then
    redis.call('SET', key, mine, 'PX', ms)
    stored[at] = 1
  elseif cell and kind ~= 'F' then
    local keep = false
    if cell == 'N' then
      keep = mine == 'N'
    elseif kind == 'V' and #cell >= 9 and mine ~= 'N' then
      local high, low = struct.unpack('>i4I4', cell, 2)
      local my_high, my_low = struct.unpack('>i4I4', mine, 2)
      keep = high > my_high or high == my_high and low >= my_low
    end
    if not keep then redis.call('DEL', key) end
  end
end
return stored
