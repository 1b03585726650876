"""`python -m vcl_provision.faces.cli`: the command `vcl` for programs that know only their interpreter."""

from vcl_provision.faces.cli import main

main()
