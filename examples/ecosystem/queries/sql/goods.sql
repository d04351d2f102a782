--! add_goods
INSERT INTO goods (name, pieces) VALUES (:name, :pieces);

--! goods_by_name
SELECT id, name, pieces, tags FROM goods WHERE name = :name;

--! all_goods
SELECT id, name, pieces, tags FROM goods ORDER BY name;

--! take_goods
UPDATE goods SET pieces = pieces - :taken WHERE name = :name RETURNING pieces;
