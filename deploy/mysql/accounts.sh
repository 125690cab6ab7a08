#!/bin/bash
# Sourced once by the image of MySQL when its volume is empty. Three accounts, for the schemas of
# the pipeline and nothing else: one makes tables, one computes, one looks.
account() { # role, rights
    local password
    password=$(cat "/run/inception/$1/database.password") || return 1
    MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql --socket=/var/run/mysqld/mysqld.sock -uroot <<SQL
CREATE USER IF NOT EXISTS 'inception_$1'@'%' IDENTIFIED BY '$password';
GRANT $2 ON \`inception\\_%\`.* TO 'inception_$1'@'%';
SQL
}
account declare "ALL"
account worker "SELECT, INSERT, UPDATE, DELETE"
account reader "SELECT, SHOW VIEW"
