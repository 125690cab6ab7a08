"""A dump from anybody is data: a statement of another form than `backup` writes is refused."""

import gzip

import pytest

from pipeline.errors import DataError
from workers.database.dumps import mysql, postgresql

POSTGRES = """--
-- PostgreSQL database dump
--

\\restrict abcDEF123

-- Dumped from database version 18.6

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA lab_toy;
SET default_table_access_method = heap;
CREATE TABLE lab_toy."#seed" (
    number integer DEFAULT '-1'::integer NOT NULL,
    "Mood" character varying(16) DEFAULT 'it''s; (
 ok)'::character varying,
    made timestamp(6) without time zone DEFAULT CURRENT_TIMESTAMP
);
COMMENT ON COLUMN lab_toy."#seed"."Mood" IS ':varchar(16):good; or
-- how it fails';
COPY lab_toy."#seed" (number, "Mood", made) FROM stdin;
1\tit's; \\\\ " \\n end\t2026-11-29 08:00:00
2\t\\N\t\\N
\\.
ALTER TABLE ONLY lab_toy."#seed"
    ADD CONSTRAINT "#seed_pkey" PRIMARY KEY (number);
CREATE INDEX mood ON lab_toy."#seed" USING btree ("Mood", made);
ALTER TABLE ONLY lab_toy.value
    ADD CONSTRAINT value_fkey FOREIGN KEY (number) REFERENCES lab_toy."#seed"(number) ON UPDATE CASCADE ON DELETE RESTRICT;

\\unrestrict abcDEF123
"""  # noqa: E501
MYSQL = """SET NAMES utf8mb4;
SET SESSION sql_mode='NO_ENGINE_SUBSTITUTION';
CREATE DATABASE `lab_toy` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */ /*!80016 DEFAULT ENCRYPTION='N' */;
USE `lab_toy`;
CREATE TABLE `#seed` (   `number` int unsigned NOT NULL AUTO_INCREMENT COMMENT 'it''s \\\\ ;',   `mood` enum('a','b') DEFAULT NULL,   `made` datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),   PRIMARY KEY (`number`),   UNIQUE KEY `mood` (`mood`),   CONSTRAINT `seed_ibfk_1` FOREIGN KEY (`number`) REFERENCES `lab_toy`.`other` (`number`) ON DELETE RESTRICT ON UPDATE CASCADE ) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x';
INSERT INTO `lab_toy`.`#seed` (`number`, `mood`) VALUES (1,'it\\'s; \\\\ \\n),('),(-2.5e-300,NULL),(3,_binary'\\0');
"""  # noqa: E501

POSTGRES_ATTACKS = [
    "\\! touch ran",
    "\\copy t from '/etc/passwd'",
    "\\restrict a; \\! id",
    "\\i other.sql",
    "COPY lab_toy.t (a) FROM PROGRAM 'touch ran';",
    "COPY lab_toy.t (a) FROM '/etc/passwd';",
    "COPY lab_toy.t (a) TO PROGRAM 'sh';",
    "COPY (SELECT 1) TO '/tmp/x';",
    "COPY lab_toy.t (a) FROM stdin WHERE pg_sleep(9) IS NULL;",
    "COPY pg_catalog.pg_proc (a) FROM stdin;",
    "SELECT lo_export(1, '/tmp/x');",
    "SELECT pg_catalog.set_config('search_path', '', false), 1;",
    "SELECT pg_catalog.set_config('a', pg_read_file('/etc/passwd'), false);",
    "DO $$ BEGIN END $$;",
    "CREATE EXTENSION plpython3u;",
    "ALTER SYSTEM SET archive_command = 'sh';",
    "CREATE FUNCTION lab_toy.f() RETURNS int LANGUAGE c AS 'libc', 'system';",
    "COMMIT;",
    "BEGIN;",
    "CREATE ROLE mallory SUPERUSER;",
    "ALTER ROLE postgres PASSWORD 'x';",
    "DROP SCHEMA public;",
    "SET session_preload_libraries = 'x';",
    "SET ROLE postgres;",
    "CREATE SCHEMA other;",
    "CREATE SCHEMA lab_toy CREATE TABLE t (a integer);",
    "CREATE TABLE other.t (a integer);",
    "CREATE TABLE lab_toy.t (a integer DEFAULT pg_sleep(9));",
    "CREATE TABLE lab_toy.t AS SELECT 1;",
    "CREATE TABLE lab_toy.t (a integer CHECK (pg_sleep(9) IS NULL));",
    "CREATE TABLE lab_toy.t (a integer GENERATED ALWAYS AS (1) STORED);",
    "CREATE TABLE lab_toy.t (a integer) INHERITS (pg_catalog.pg_class);",
    "CREATE TABLE lab_toy.t (a integer) TABLESPACE x;",
    "CREATE TABLE lab_toy.t (a lab_toy.evil);",
    "CREATE TABLE lab_toy.t (a integer DEFAULT E'\\\\x');",
    "CREATE TABLE lab_toy.t (a regclass);",
    "CREATE INDEX i ON lab_toy.t USING btree (pg_sleep(9));",
    "CREATE INDEX i ON lab_toy.t USING gin (a);",
    "CREATE VIEW lab_toy.v AS SELECT 1;",
    "CREATE TRIGGER t AFTER INSERT ON lab_toy.t EXECUTE FUNCTION f();",
    "CREATE RULE r AS ON INSERT TO lab_toy.t DO ALSO NOTHING;",
    "CREATE SERVER s FOREIGN DATA WRAPPER f;",
    "ALTER TABLE ONLY lab_toy.t ADD CONSTRAINT c CHECK (true);",
    "ALTER TABLE ONLY lab_toy.t OWNER TO x;",
    "ALTER TABLE ONLY lab_toy.t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES other.t(a);",
    "COMMENT ON DATABASE postgres IS 'x';",
    "COMMENT ON TABLE lab_toy.t IS 'x' || 'y';",
    "INSERT INTO lab_toy.t VALUES (1);",
    "GRANT ALL ON SCHEMA lab_toy TO PUBLIC;",
    "LOAD 'x';",
    "CREATE SCHEMA lab_toy; DROP SCHEMA public;",
    'CREATE SCHEMA "lab_toy""; DROP SCHEMA public; --";',
    "/* */ CREATE SCHEMA lab_toy;",
    "CREATE SCHEMA lab_toy\x00;",
    "nothing",
    "'",
    "COPY lab_toy.t (a) FROM stdin;",
]
MYSQL_ATTACKS = [
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE `t`",
    "system touch ran",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE `t`",
    "CREATE USER mallory",
    "\\! touch ran",
    "GRANT ALL ON *.* TO mallory",
    "SET GLOBAL general_log_file='/tmp/x.php'",
    "DROP DATABASE mysql",
    "SET NAMES gbk",
    "SET SESSION sql_mode='NO_BACKSLASH_ESCAPES'",
    "INSTALL PLUGIN x SONAME 'x.so'",
    "CREATE DATABASE `other`",
    "CREATE DATABASE `lab_toy` /*!40100 ; DROP DATABASE mysql */",
    "CREATE DATABASE `lab_toy`; DROP DATABASE `mysql`",
    "USE `mysql`",
    "CREATE FUNCTION f RETURNS int SONAME 'x'",
    "CREATE TABLE `t` (`a` int) ENGINE=InnoDB DATA DIRECTORY='/tmp'",
    "CREATE TABLE `t` (`a` int) ENGINE=CSV",
    "CREATE TABLE `t` (`a` int) ENGINE=FEDERATED CONNECTION='mysql://x'",
    "CREATE TABLE `t` SELECT 1",
    "CREATE TABLE `t` (`a` int) ENGINE=InnoDB AS SELECT * FROM mysql.user",
    "CREATE TABLE `t` (`a` int DEFAULT (sleep(9))) ENGINE=InnoDB",
    "CREATE TABLE `mysql`.`t` (`a` int) ENGINE=InnoDB",
    "CREATE TABLE `t` (`a` int GENERATED ALWAYS AS (1)) ENGINE=InnoDB",
    "CREATE TABLE `t` (`a` int, CHECK (sleep(9))) ENGINE=InnoDB",
    "CREATE TABLE `t` (`a` int, KEY `k` ((sleep(9)))) ENGINE=InnoDB",
    "CREATE TABLE `t` (`a` int, CONSTRAINT `c` FOREIGN KEY (`a`) REFERENCES `mysql`.`user` (`a`)) "
    "ENGINE=InnoDB",
    "CREATE TABLE `t` (`a` int /*!50000 , `b` int */) ENGINE=InnoDB",
    "CREATE TRIGGER `t` BEFORE INSERT ON `t`",
    "CREATE TABLE `t` (`a` int) ENGINE=InnoDB -- x",
    "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY DO DROP TABLE `t`",
    "INSERT INTO `mysql`.`user` (`a`) VALUES (1)",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (sleep(9))",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (1) ON DUPLICATE KEY UPDATE `a`=1",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (@@version)",
    "INSERT INTO `lab_toy`.`t` (`a`) SELECT 1",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (LOAD_FILE('/etc/passwd'))",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (1); DROP",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES ('a'''b)",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES (0x41)",
    "INSERT INTO `lab_toy`.`t` (`a`) VALUES ('\\')",
    "REPLACE INTO `lab_toy`.`t` (`a`) VALUES (1)",
    "nothing",
    "'",
]


def check(module, folder, text):
    if module is postgresql:
        (folder / module.FILE).write_text(text, encoding="utf-8")
    else:
        with gzip.open(folder / module.FILE, "wt", encoding="utf-8", newline="\n") as file:
            file.write(text)
    module.check(folder, ["lab_toy"])


@pytest.mark.parametrize(("module", "text"), [(postgresql, POSTGRES), (mysql, MYSQL)])
def test_what_backup_writes_is_read(tmp_path, module, text):
    check(module, tmp_path, text)
    made = ""
    for one in module._statements(tmp_path / module.FILE, ["lab_toy"]):
        for part in one:
            made += part if isinstance(part, str) else ""
            while hasattr(part, "read") and (line := part.read()):
                made += line.decode()
    for part in ("#seed", "it''s", "CURRENT_TIMESTAMP", "PRIMARY KEY", "RESTRICT", "CASCADE"):
        assert part in made


@pytest.mark.parametrize(
    ("module", "attack"),
    [
        *((postgresql, text) for text in POSTGRES_ATTACKS),
        *((mysql, text) for text in MYSQL_ATTACKS),
    ],
)
def test_a_statement_of_any_other_form_is_refused(tmp_path, module, attack):
    whole, cut = (POSTGRES, "\nSET default") if module is postgresql else (MYSQL, "\nCREATE TABLE")
    end = "\n" if module is postgresql else ";\n"
    place = whole.index(cut) + 1
    text = whole[:place] + attack + end + (whole[place:] if "FROM stdin" not in attack else "")
    with pytest.raises(DataError) as caught:
        check(module, tmp_path, text)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    assert f"{module.FILE}: line " in said


def test_a_dump_that_is_no_gzip_or_no_text_is_refused(tmp_path):
    for content in (
        b"no gzip",
        gzip.compress(b"SET NAMES utf8mb4;\n" * 99)[:-20],
        gzip.compress(b"\xff"),
    ):
        (tmp_path / mysql.FILE).write_bytes(content)
        with pytest.raises(DataError):
            mysql.check(tmp_path, ["lab_toy"])
    (tmp_path / postgresql.FILE).write_bytes(b"CREATE SCHEMA \xff;\n")
    with pytest.raises(DataError, match="no UTF-8"):
        postgresql.check(tmp_path, [])
