INSERT INTO goods VALUES ('lamp', 3);
