"""The console: pages for people, rendered here from the services and repositories that the JSON API uses (ADR-0059).

The folder may be deleted: `app_api.optional` finds it, nothing else imports it. A page is added in three steps.

1. A template, `templates/pets.html`, which extends `base.html` and fills the blocks `title` and `content`.
2. A handler in a module with a `router`: `pages/pets.py`; or `operators/pets.py`, which is for operators only and does
   not exist for others (404), without a line of yours. A feature keeps its pages with itself:
   `app_api/features/pets/pages.py`, or `operator_pages.py`, with templates in `templates/` beside it.

       router = APIRouter()

       @router.get("/pets")  # the address is /console/pets
       async def pets(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
           return page.render("pets.html", pets=await service.pets_of(session, viewer))

3. A link in the navigation, in the same module: `LINK = Link("Pets", "/console/pets", order=30)`.

What acts is a form with `method="post"`; its handler ends in `return see_other("/console/pets?done=pet-saved")`, and
`DONE = {"pet-saved": "The pet is saved."}` in the module is what the next page says. Where a form comes from is checked
for all of them (origin.py). `FreshViewerDep` asks for the password again. If a service refuses,
`page.on_error("pets.html", …)`, called before it, shows the form again with the words of the error as `problem`.

`SLOTS = {"account": "pets_card.html"}` in a module adds a template to a page of the console: `account` is My account,
`sign_in` the sign-in page, `confirm` the page that asks for the password again. A function `slot_values(request)` there
gives them values. Scripts and styles of a feature are in
`static/` beside its pages: `<script src="{{ asset('pets.js') }}" defer></script>`.

A part of a page is kept live by a mark, `<div data-live="pet:{{ pet.id }}">{% include "pet.html" %}</div>`, and by
`LIVE = {"pet": Fragment("pet.html", read_pets)}` in the module (fragments.py): `read_pets` gets all parts that are
watched in this process and finds them by one query a second, however many pages are open (ADR-0060).
"""
