# $1: name.
delete_account "$1"
