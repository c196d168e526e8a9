# Sourced by demo.sh, real-demo.sh and test.sh: makes .venv if it is missing and installs this checkout with the tested
# versions.
# usage: prepare_environment [EXTRA]
prepare_environment() {
  local extra="${1:-}" python="${PYTHON:-python3}"
  if [ ! -x .venv/bin/python ]; then
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
      echo "unierase needs Python 3.11 to 3.13; $python is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
      return 2
    }
    echo "making .venv" >&2
    "$python" -m venv .venv
  fi
  # Install again only if the installed package is older than the project's files.
  local stamp=".venv/.installed-${extra:-plain}"
  if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ scripts/constraints.txt -nt "$stamp" ]; then
    echo "installing (the first time takes a few minutes)" >&2
    # torch first, at its exact version, so that no other package pulls in a different build.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' scripts/constraints.txt)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".${extra:+[$extra]}"
    touch "$stamp"
  fi
}
