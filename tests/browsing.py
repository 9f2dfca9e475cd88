"""A person at the page: what they see and do, in words."""

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect


class Person:
    """Somebody with a window on the page, whose console must stay empty."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self._complaints: list[str] = []
        self._allowed: list[str] = []
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complaints.append(message.text)

    def allows(self, words: str) -> None:
        """The console may hold a complaint with these words."""
        self._allowed.append(words)

    @property
    def complaints(self) -> list[str]:
        return [text for text in self._complaints if not any(words in text for words in self._allowed)]

    def open(self, query: str = "") -> "Person":
        self.page.goto(self.address + query)
        expect(self.page.get_by_label("Message to the agent")).to_be_visible()
        return self

    def type(self, text: str) -> None:
        self.page.get_by_label("Message to the agent").fill(text)
        self.page.keyboard.press("Enter")

    def say(self, text: str) -> None:
        """Take a turn, to its end."""
        self.type(text)
        expect(self.messages.filter(has_text=text).first).to_be_visible()
        self.idle()

    def idle(self) -> None:
        expect(self.page.locator(".running")).to_have_count(0)
        expect(self.page.get_by_role("button", name="Send")).to_be_visible()

    @property
    def messages(self) -> Locator:
        return self.page.locator(".message .bubble")

    def message(self, text: str) -> Locator:
        return self.page.locator(".message").filter(has_text=text)

    def act(self, text: str, action: str) -> None:
        """Do something with the first message that has the text."""
        message = self.message(text).first
        message.hover()
        message.get_by_role("button", name=action, exact=True).click()

    def rewrite(self, text: str, action: str, new: str, confirm: str) -> None:
        self.act(text, action)
        self.page.get_by_label("Message", exact=True).fill(new)
        self.page.get_by_role("button", name=confirm, exact=True).click()

    def click(self, name: str, within: Any = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def sees(self, *texts: str) -> None:
        """These messages, and no others."""
        expect(self.messages).to_have_text([re.compile(re.escape(text)) for text in texts])

    @property
    def tree(self) -> Locator:
        return self.page.get_by_role("complementary", name="Tree")

    @property
    def nodes(self) -> Locator:
        return self.tree.get_by_role("listitem")
