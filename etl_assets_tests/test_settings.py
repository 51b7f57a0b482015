"""Everything that comes from the environment."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets import redact
from etl_assets.errors import SettingError
from etl_assets.pipeline import Pipeline
from etl_assets.settings import Settings, Timeouts, connection, environment, plain_values, reload_days
from etl_assets.spec import Source

SOURCE = Source.model_validate(
    {
        "source": "acme",
        "title": "Acme Cloud",
        "base_url": "https://api.acme.example",
        "timezone": "Asia/Tokyo",
        "reload_days": 3,
        "settings": {
            "ACME_TOKEN": {"secret": True, "help": "Acme > Profile > New token."},
            "ACME_ACCOUNT": {"help": "The number in the address."},
            "ACME_READING": {"default": "aware", "help": "How times are read."},
        },
        "limits": {"parallel": 4},
        "streams": [{"name": "things", "path": "/things", "key": ["id"], "columns": {"id": "integer"}}],
    }
)
GIVEN = {"ACME_TOKEN": "tok-settings-0001", "ACME_ACCOUNT": "42"}


# The environment and .env


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ACME_TOKEN", "ACME_ACCOUNT", "ACME_READING"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_variable_comes_from_the_env_file_when_the_process_has_none(folder: Path) -> None:
    (folder / ".env").write_text("# comment\nACME_TOKEN='from file'\nexport ACME_ACCOUNT=7\nACME_READING=\n")
    found = environment()
    assert (found["ACME_TOKEN"], found["ACME_ACCOUNT"]) == ("from file", "7")
    assert "ACME_READING" not in found


def test_the_process_wins_over_the_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("ACME_TOKEN=file\nACME_ACCOUNT=file\n")
    monkeypatch.setenv("ACME_TOKEN", "process")
    assert (environment()["ACME_TOKEN"], environment()["ACME_ACCOUNT"]) == ("process", "file")


def test_an_empty_variable_counts_as_unset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("ACME_ACCOUNT=\n")
    monkeypatch.setenv("ACME_TOKEN", "")
    assert not {"ACME_TOKEN", "ACME_ACCOUNT"} & environment().keys()


def test_an_empty_variable_of_the_process_does_not_hide_the_env_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("ACME_TOKEN=file\n")
    monkeypatch.setenv("ACME_TOKEN", "")
    assert environment()["ACME_TOKEN"] == "file"


def test_the_env_file_is_looked_for_in_the_working_directory_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("ACME_TOKEN=above\n")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert "ACME_TOKEN" not in environment()


@pytest.mark.parametrize(("file", "token"), [("other.env", "other"), ("/dev/null", None), ("", "usual")])
def test_another_env_file_can_be_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, token: str | None
) -> None:
    (folder / ".env").write_text("ACME_TOKEN=usual\n")
    (folder / "other.env").write_text("ACME_TOKEN=other\n")
    monkeypatch.setenv("ETL_ENV_FILE", file)
    assert environment().get("ACME_TOKEN") == token


def test_an_env_file_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("ACME_TOKEN=usual\n")
    monkeypatch.setenv("ETL_ENV_FILE", "/no/such/prod.env")
    with pytest.raises(SettingError, match=r"^ETL_ENV_FILE: there is no file /no/such/prod\.env$"):
        environment()


def test_settings_come_from_the_environment_when_none_is_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("ETL_DATA_DIR=/file\nETL_RETRY_BASE_SECONDS=0.5\n")
    monkeypatch.setenv("ETL_DATA_DIR", "/process")
    monkeypatch.delenv("ETL_RETRY_BASE_SECONDS", raising=False)
    settings = Settings.read()
    assert (settings.data_dir, settings.retry_base_seconds) == (Path("/process"), 0.5)


# Settings that belong to no source


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.read({})
    assert settings.data_dir == Path("data")
    assert Path(settings.landing) == Path("data/landing")
    assert settings.duckdb_path == Path("data/warehouse.duckdb")
    assert (settings.warehouse, settings.sources_dir, settings.retry_base_seconds) == ("duckdb", None, 1.0)
    assert settings.timeouts == Timeouts(connect=10.0, read=60.0, total=600.0)


def test_landing_and_table_file_follow_the_data_folder_unless_they_are_set() -> None:
    settings = Settings.read({"ETL_DATA_DIR": "/d", "DUCKDB_PATH": "/elsewhere/w.duckdb", "ETL_SOURCES_DIR": "/s"})
    assert settings.landing == "/d/landing"
    assert (settings.duckdb_path, settings.sources_dir) == (Path("/elsewhere/w.duckdb"), Path("/s"))
    assert Settings.read({"ETL_DATA_DIR": "/d", "ETL_LANDING": "/l"}).landing == "/l"


NUMBERS = [
    "ETL_RETRY_BASE_SECONDS",
    "ETL_CONNECT_TIMEOUT_SECONDS",
    "ETL_READ_TIMEOUT_SECONDS",
    "ETL_TOTAL_TIMEOUT_SECONDS",
    "ETL_MAX_RESPONSE_MB",
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["ten", "1,5", "1s", "-1", "inf", "nan", "1e999", "0x10"])
def test_a_number_that_is_none_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: '{text}' is (not a number|out of range)"):
        Settings.read({name: text})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["2", "0.25", " 3 ", "1e2"])
def test_a_number_is_taken_as_people_write_it(name: str, text: str) -> None:
    settings = Settings.read({name: text})
    read = {
        "ETL_RETRY_BASE_SECONDS": settings.retry_base_seconds,
        "ETL_CONNECT_TIMEOUT_SECONDS": settings.timeouts.connect,
        "ETL_READ_TIMEOUT_SECONDS": settings.timeouts.read,
        "ETL_TOTAL_TIMEOUT_SECONDS": settings.timeouts.total,
        "ETL_MAX_RESPONSE_MB": settings.max_response_bytes / 1e6,
    }
    assert read[name] == float(text)


@pytest.mark.parametrize("name", [name for name in NUMBERS if "TIMEOUT" in name])
def test_a_timeout_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: '0' is out of range"):
        Settings.read({name: "0"})


def test_a_retry_base_of_nothing_is_for_the_impatient() -> None:
    assert Settings.read({"ETL_RETRY_BASE_SECONDS": "0"}).retry_base_seconds == 0


def test_an_unknown_warehouse_is_refused_with_what_is_known() -> None:
    with pytest.raises(SettingError, match=r"ETL_WAREHOUSE: 'snowflake' is not known.*duckdb"):
        Settings.read({"ETL_WAREHOUSE": "snowflake"})


# What one source needs


def test_a_connection_has_address_values_and_limits_of_its_source() -> None:
    found = connection(SOURCE, GIVEN)
    assert found.base_url == "https://api.acme.example"
    assert found.values == {**GIVEN, "ACME_READING": "aware"}
    assert found.parallel == 4
    assert connection(SOURCE, {**GIVEN, "ACME_READING": "wall"}).values["ACME_READING"] == "wall"


def test_missing_variables_are_named_all_together_with_where_to_get_them() -> None:
    with pytest.raises(SettingError) as caught:
        connection(SOURCE, {})
    text = str(caught.value)
    assert text.startswith("Acme Cloud needs variables that are not set")
    assert "ACME_TOKEN: Acme > Profile > New token." in text
    assert "ACME_ACCOUNT: The number in the address." in text
    assert "ACME_READING" not in text
    assert ".env.example" in text


def test_a_missing_variable_does_not_show_those_that_are_there() -> None:
    with pytest.raises(SettingError) as caught:
        connection(SOURCE, {"ACME_TOKEN": "tok-settings-0002"})
    assert "ACME_ACCOUNT" in str(caught.value)
    assert "tok-settings" not in str(caught.value)
    assert "ACME_TOKEN" not in str(caught.value)


def test_a_secret_is_masked_as_soon_as_it_is_read() -> None:
    connection(SOURCE, {**GIVEN, "ACME_TOKEN": "tok-settings-0003", "ACME_ACCOUNT": "account-settings-0003"})
    assert redact.scrub("tok-settings-0003 account-settings-0003") == "*** account-settings-0003"


@pytest.mark.parametrize(
    "value", ["tok\nsettings-0004", "tok\r\nX: y", "tok-settings\x00", "tok\t-0004", "tok\udcff-0004"]
)
def test_a_secret_that_would_break_a_header_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(SettingError, match=r"^ACME_TOKEN: the value holds a control character") as caught:
        connection(SOURCE, {**GIVEN, "ACME_TOKEN": value})
    assert "tok" not in str(caught.value)


def test_values_without_secrets_can_be_had_without_any_secret() -> None:
    assert plain_values(SOURCE, {}) == {"ACME_READING": "aware"}
    assert plain_values(SOURCE, GIVEN) == {"ACME_ACCOUNT": "42", "ACME_READING": "aware"}


@pytest.mark.parametrize(("text", "parallel"), [("1", 1), ("9", 9), ("0", 1), ("1000", 64)])
def test_requests_in_parallel_are_set_per_source_within_bounds(text: str, parallel: int) -> None:
    assert connection(SOURCE, {**GIVEN, "ACME_PARALLEL": text}).parallel == parallel
    assert connection(SOURCE, {**GIVEN, "OTHER_PARALLEL": text}).parallel == 4


def test_reloaded_days_are_set_per_source() -> None:
    assert [reload_days(SOURCE, {"ACME_RELOAD_DAYS": text}) for text in ("10", "0")] == [10, 1]
    assert reload_days(SOURCE, {}) == 3


@pytest.mark.parametrize(("name", "read"), [("ACME_PARALLEL", connection), ("ACME_RELOAD_DAYS", reload_days)])
@pytest.mark.parametrize("text", ["many", "-1", "nan"])
def test_a_bad_number_of_a_source_is_refused_by_name(name: str, read: Callable[..., object], text: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: '{text}'"):
        read(SOURCE, {**GIVEN, name: text})


# Base URLs


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://eu.acme.example", "https://eu.acme.example"),
        ("https://eu.acme.example/", "https://eu.acme.example"),
        ("HTTPS://eu.acme.example:8443", "https://eu.acme.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_base_url_is_scheme_and_host(given: str, used: str) -> None:
    assert connection(SOURCE, {**GIVEN, "ACME_BASE_URL": given}).base_url == used


@pytest.mark.parametrize(
    "given",
    [
        "http://api.acme.example",
        "http://localhost.acme.example",
        "http://127.0.0.1.acme.example",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "http://[::2]",
    ],
)
def test_plain_http_is_for_this_machine_only(given: str) -> None:
    with pytest.raises(SettingError, match=r"^ACME_BASE_URL: http:// is accepted for this machine only"):
        connection(SOURCE, {**GIVEN, "ACME_BASE_URL": given})


@pytest.mark.parametrize(
    "given",
    [
        "api.acme.example",
        "ftp://api.acme.example",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://api.acme.example/api/v3",
        "https://api.acme.example?key=1",
        "https://api.acme.example#top",
        "https://@api.acme.example",
        "https://[::1",
        "https://api.acme.example:port",
        "https://api.acme.example:99999",
        "https://api acme.example",
        "https://api.acme.example\\@other.example",
    ],
)
def test_a_base_url_with_anything_else_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(SettingError, match=r"^ACME_BASE_URL: give .*https://api\.acme\.example$"):
        connection(SOURCE, {**GIVEN, "ACME_BASE_URL": given})


@pytest.mark.parametrize(
    "given",
    [
        "https://someone:hunter2@api.acme.example",
        "https://hunter2@api.acme.example",
        "https://:hunter2@api.acme.example",
        "http://someone:hunter2@127.0.0.1",
        "https://someone:hunter2@[::1",
        "https://someone:hunter2@api.acme\u2100.example",
        "https://api.acme.example/?token=hunter2",
        "hunter2",
    ],
)
def test_a_refused_base_url_is_not_shown_with_its_credentials(given: str) -> None:
    with pytest.raises(SettingError, match=r"^ACME_BASE_URL: give scheme and host") as caught:
        connection(SOURCE, {**GIVEN, "ACME_BASE_URL": given})
    behind = [caught.value.__cause__, caught.value.__context__]
    assert "hunter2" not in "".join(map(str, behind)) + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"ETL_WAREHOUSE": "sqlite"}, "ETL_WAREHOUSE: 'sqlite' is not known; use duckdb or bigquery"),
        ({"ETL_LANDING": "s3://bucket/etl"}, "ETL_LANDING: 's3://bucket/etl' is neither a local folder nor gs://"),
        ({"ETL_LANDING": "gs:///etl"}, "ETL_LANDING: 'gs:///etl' is neither"),
        ({"BIGQUERY_DATASET_PREFIX": "dev-"}, "BIGQUERY_DATASET_PREFIX: 'dev-' has more than letters"),
        ({"BIGQUERY_TABLE_RATES": "often"}, "BIGQUERY_TABLE_RATES: 'often' is no list of rates such as 5/10s"),
        ({"BIGQUERY_MAXIMUM_BYTES_BILLED": "1 GB"}, "BIGQUERY_MAXIMUM_BYTES_BILLED: '1 GB' is not a number"),
        ({"BIGQUERY_EMULATOR_HOST": "http://"}, "BIGQUERY_EMULATOR_HOST: 'http://' is no address"),
        ({"ETL_BACKFILL_DAYS": "0"}, "ETL_BACKFILL_DAYS: a run loads one day at least"),
    ],
)
def test_a_wrong_setting_of_bigquery_is_named(env: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match=re.escape(said)):
        Settings.read(env)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"BIGQUERY_PROJECT": "p"}, "ETL_LANDING: BigQuery loads from a bucket; set ETL_LANDING=gs://bucket/prefix"),
        ({"ETL_LANDING": "gs://lake/etl"}, "BIGQUERY_PROJECT is not set"),
    ],
)
def test_what_bigquery_needs_is_said_when_it_is_used(env: dict[str, str], said: str, tmp_path: Path) -> None:
    pipeline = Pipeline(Settings.read({"ETL_WAREHOUSE": "bigquery", "ETL_DATA_DIR": str(tmp_path), **env}))
    with pytest.raises(SettingError, match=re.escape(said)):
        pipeline.warehouse.select("SELECT 1")
