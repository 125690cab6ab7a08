-- the pipeline's account owns the schemas of the pipeline and nothing else
GRANT ALL ON `inception\_%`.* TO 'inception'@'%';
