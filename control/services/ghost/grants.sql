-- A blog in another language has a database of its own, which Ghost makes.
GRANT ALL PRIVILEGES ON `ghost%`.* TO 'ghost'@'%';
