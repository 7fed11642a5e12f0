"""Tables of names and patterns that the rules of this package go by. Data only; each table says what it is for."""

from __future__ import annotations

import re

__all__ = [
    "CREDENTIALS",
    "FAMILIES",
    "INTERPRETERS",
    "MANAGERS",
    "ORDINARY_READ",
    "PERSISTENCE",
    "RUNNERS",
    "RUN_OTHERS",
    "SCRATCH",
    "SHELLS",
    "SYSTEM",
    "TOP_FOLDERS",
    "WITH_TEST",
]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHELLS = _set("sh bash dash ash zsh ksh mksh fish busybox")

INTERPRETERS = re.compile(
    r"^(?:(?:python|pypy)[\d.]*|node|nodejs|ruby[\d.]*|perl[\d.]*|php[\d.]*|lua[\d.]*|Rscript|java|bun|deno)$"
)

# Programs whose job is to run what their arguments say.
RUN_OTHERS = _set("""
    env timeout nice ionice nohup setsid stdbuf xargs find parallel watch time sudo doas su chroot unshare strace ltrace
    script flock taskset chrt busybox command exec uv uvx npx pipx poetry pdm hatch bundle dotenv direnv entr ssh-agent
    dbus-run-session
""")

# A program that a decision names -> programs, or (with a slash) folders of programs, that do its job for it.
FAMILIES: dict[str, frozenset[str]] = {
    "git": _set("git ssh gpg less pager /git-core/ diff gzip"),
    "apt": _set("dpkg apt gpgv /usr/lib/apt/ /usr/lib/dpkg/ sqv update- ldconfig"),
    "apt-get": _set("dpkg apt gpgv /usr/lib/apt/ /usr/lib/dpkg/ sqv update- ldconfig"),
    "pip": _set("python git gcc cc uv"),
    "pip3": _set("python git gcc cc uv"),
    "uv": _set("python git gcc cc"),
    "npm": _set("node git"),
    "npx": _set("node git"),
    "yarn": _set("node git"),
    "pnpm": _set("node git"),
    "cargo": _set("rustc cc ld git rustup build-script-build"),
    "go": _set("compile link asm cgo gcc git vet /pkg/tool/ buildid"),
    "make": _set("cc gcc g++ c++ clang ld as ar ranlib collect2 cc1 cc1plus strip install"),
    "cmake": _set("make ninja cc gcc g++ c++ clang ld as cc1 cc1plus collect2"),
    "gcc": _set("cc1 as collect2 ld lto-wrapper lto1"),
    "cc": _set("cc1 as collect2 ld lto-wrapper lto1"),
    "g++": _set("cc1plus as collect2 ld"),
    "clang": _set("ld lld as"),
    "man": _set("groff less pager troff grotty preconv tbl"),
    "rsync": _set("ssh rsync"),
    "scp": _set("ssh"),
    "sftp": _set("ssh"),
    "mvn": _set("java"),
    "gradle": _set("java"),
    "tar": _set("gzip bzip2 xz zstd"),
}

# Programs that install software, and so write wherever that goes.
MANAGERS = _set("""
    pip pip3 uv npm npx yarn pnpm cargo go apt apt-get dpkg conda mamba gem bundle poetry pdm mvn gradle composer
""")

# (what it is, pattern of its path, whether an attempt is enough)
CREDENTIALS: tuple[tuple[str, re.Pattern[str], bool], ...] = (
    ("a private SSH key", re.compile(r"/\.ssh/(?:id_[\w-]+|identity|[\w-]+\.pem)$"), True),
    ("SSH settings", re.compile(r"/\.ssh/(?:authorized_keys|config)$"), False),
    (
        "cloud credentials",
        re.compile(r"/\.aws/(?:credentials|config)$|/\.config/gcloud/|/\.azure/|/\.oci/|/\.kube/config$"),
        True,
    ),
    ("a Kubernetes service account's token", re.compile(r"/(?:var/)?run/secrets/"), True),
    ("passwords of the system", re.compile(r"^/etc/(?:shadow|gshadow|sudoers)(?:$|[-.])"), True),
    (
        "stored passwords",
        re.compile(r"/(?:\.netrc|\.git-credentials|\.pgpass|\.my\.cnf|\.docker/config\.json|\.pypirc)$"),
        False,
    ),
    ("a registry's token", re.compile(r"/(?:\.npmrc|\.cargo/credentials(?:\.toml)?|\.gem/credentials)$"), False),
    (
        "a wallet or key ring",
        re.compile(r"/\.gnupg/(?:private-keys|secring)|/\.password-store/|wallet\.dat$|/\.local/share/keyrings/"),
        True,
    ),
    ("a browser's secrets", re.compile(r"/(?:Login Data|cookies\.sqlite|logins\.json|key4\.db)$"), True),
    ("another process's environment", re.compile(r"^/proc/(?!self/)\d+/(?:environ|mem)$"), False),
    (
        "a file of secrets",
        re.compile(
            r"/(?:\.env(?:\.(?!example|sample|template|dist|test)[\w-]+)?|[\w.-]*(?:secret|credential|passw(?:or)?d|api[_-]?key|private[_-]?key)[\w-]*"
            r"(?:\.(?:json|ya?ml|txt|toml|ini|env|key|pem|conf))?)$",
            re.I,
        ),
        False,
    ),
)

# Files of the system's own, whatever their names sound like.
SYSTEM = re.compile(
    r"^/(?:usr|lib|lib64|bin|sbin|opt|proc/self|sys|dev)/|/site-packages/|/node_modules/|^/etc/(?:ssl|passwd$|nsswitch|pam)"
)

# Folders at the top that a command does not make its own by naming them.
TOP_FOLDERS = re.compile(r"^/(?:bin|boot|dev|etc|home|lib\w*|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)?/?$")

# What programs read to be able to run.
ORDINARY_READ = re.compile(
    r"^/(?:usr|lib|lib64|bin|sbin|opt|proc|sys|dev|etc|run|nix)(?:/|$)|^/$"
    r"|/(?:site-packages|dist-packages|node_modules|__pycache__|\.git|python[\d.]+|locale|gconv|ruby|perl5?)(?:/|$)"
    r"|\.(?:so(?:\.[\d.]+)?|pyc|pth|mo)$|/pyvenv\.cfg$"
)

# Files that something runs or trusts later.
PERSISTENCE = re.compile(
    r"/\.(?:bashrc|bash_profile|bash_login|profile|zshrc|zprofile|zshenv|xprofile|pam_environment)$"
    r"|/\.ssh/(?:authorized_keys|config|rc)$"
    r"|^/etc/(?:cron|init\.d|systemd|profile|rc\.|ld\.so\.preload|sudoers|passwd$|shadow$)"
    r"|^/var/spool/cron/|/\.config/(?:systemd|autostart)/|/\.git/hooks/(?!.*\.sample$)"
    r"|/sitecustomize\.py$|/[\w-]+\.pth$|/\.gitconfig$"
)

# Where programs write without anybody asking: scratch space, caches, devices, what a build leaves.
SCRATCH = re.compile(
    r"^/(?:tmp|var/tmp|dev|proc|sys|run/user)(?:/|$)"
    r"|/(?:\.cache|__pycache__|\.pytest_cache|\.mypy_cache|\.ruff_cache|\.npm|\.hypothesis|\.tox|\.nox)(?:/|$)"
    r"|/(?:\.local/state|target|build|dist|node_modules|\.git)(?:/|$)"
    r"|\.pyc(?:\.\d+)?$|/\.(?:lesshst|python_history|node_repl_history|wget-hsts|bash_history|viminfo)$"
)

# Programs that run tests by themselves, and programs that do when one of their words says so.
RUNNERS = _set("""
    pytest py.test tox nox nosetests nose2 trial unittest ctest phpunit rspec jest mocha vitest ava karma cypress bats
    pest gotestsum nextest busted prove stestr green ward behave cucumber testthat minitest
""")
WITH_TEST = _set("""
    npm yarn pnpm bun go cargo make gmake ninja mvn mvnw gradle gradlew dotnet swift mix rake bazel deno composer sbt
    lein stack cabal meson just task hatch poetry pdm uv rails php zig dune flutter dart ant manage.py setup.py
""")
