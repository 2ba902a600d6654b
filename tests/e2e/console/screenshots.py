"""`make screenshots`: takes the pictures of README and docs, of a real API and worker with a shop's hour of jobs."""

import argparse
import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Page
from sqlalchemy import update

from app_db import Database, open_database
from app_db.models import Role, User
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.e2e.chromium import open_chromium
from tests.e2e.conftest import api_environment, environment_of_workers
from tests.e2e.console.showcase import Seeded, beat, seed
from tests.e2e.console.site import ConsoleSite
from tests.e2e.http_site import NO_LIMITS
from tests.e2e.processes import Api, Worker

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs/images"
WIDTH, MOST_BYTES = 1280, 150_000
QUALITY = 0.9
REWRITE = """async ([address, quality]) => {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const file = await canvas.convertToBlob({type: "image/webp", quality});
    return await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(file);
    });
}"""
OPERATOR = "mara@shop.example"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page; `{job}` and `{account}` stand for ids."""

    name: str
    path: str
    height: int
    dark: bool = False


PICTURES = (
    Picture("console-overview.webp", "/overview", 800),
    Picture("console-overview-dark.webp", "/overview", 800, dark=True),
    Picture("console-jobs.webp", "/jobs", 800),
    Picture("console-job.webp", "/jobs/{job}", 1000),
    Picture("console-account.webp", "/accounts/{account}", 1000),
)


@asynccontextmanager
async def running_system(folder: Path) -> AsyncIterator[tuple[str, Database]]:
    """Start Postgres, Valkey, an API and a worker; yield the address of the API, and the database."""
    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey:
        url = await databases.recreate(postgres.url("postgres"), "screenshots_test")
        await databases.migrate(url, root=ROOT)
        no_limits = {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off"}
        of_worker = environment_of_workers(url, valkey.url, mail_url="console://")
        api = Api(env=api_environment(url, valkey.url) | no_limits, log=folder / "api.log")
        try:
            worker = Worker(env=of_worker, log=folder / "worker.log")
            try:
                async with open_database(DatabaseSettings.model_validate({"url": url}), name="screenshots") as database:
                    yield api.url, database
            finally:
                worker.stop()
        finally:
            api.stop()


async def take(site: ConsoleSite, database: Database, seeded: Seeded, picture: Picture, folder: Path) -> None:
    """Take one picture as soon as the page has its newest figures."""
    path = picture.path.format(job=seeded.job_id, account=seeded.account_id)
    looks = {
        "viewport": {"width": WIDTH, "height": picture.height},
        "color_scheme": "dark" if picture.dark else "light",
    }
    async with site.visit("/account", email=OPERATOR, **looks) as seen:
        await beat(database)
        await show(seen.page, f"{site.url}{path}")
        png = await seen.page.screenshot()
        assert seen.faults == [], seen.faults
    (folder / picture.name).write_bytes(await as_webp(site.chromium, png))


async def as_webp(chromium: Browser, png: bytes) -> bytes:
    """Let the browser write the picture anew: its PNGs are three times as large."""
    page = await chromium.new_page()
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    written: str = await page.evaluate(REWRITE, [address, QUALITY])
    await page.close()
    return base64.b64decode(written.partition(",")[2])


async def show(page: Page, url: str) -> None:
    """Open a page and wait for its fonts."""
    response = await page.goto(url)
    assert response, url
    assert response.status == 200, (url, response.status)
    await page.evaluate("document.fonts.ready")


async def take_all(folder: Path) -> None:
    """Take all pictures of one system."""
    with tempfile.TemporaryDirectory() as logs:
        async with running_system(Path(logs)) as (base, database), open_chromium() as chromium:
            site = ConsoleSite(base, chromium)
            await site.register(OPERATOR)
            async with database.unit_of_work() as session:
                await session.execute(update(User).values(role=Role.OPERATOR))
            seeded = await seed(database)
            for picture in PICTURES:
                await take(site, database, seeded, picture, folder)


def main() -> None:
    """Write the pictures, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where to write them (docs/images)")
    folder: Path = parser.parse_args().folder
    asyncio.run(take_all(folder))
    for picture in PICTURES:
        size = (folder / picture.name).stat().st_size
        assert size <= MOST_BYTES, f"{picture.name} has {size} bytes, more than {MOST_BYTES}: make it lower"
        print(f"{size:>8} {picture.name}")  # noqa: T201  # a program


if __name__ == "__main__":
    main()
