"""A small game that knows nothing of raygym: hit the ball with the bat, as long as you can.

It stands for any program that draws on an X screen and says on its standard output how it
goes.
"""

import random
import sys
import tkinter

WIDTH, HEIGHT, BALL, BAT = 320, 240, 12, 60
FRAME_MS = 20


class Wall:
    """The game in a window of its own."""

    def __init__(self, seed: int) -> None:
        self.root = tkinter.Tk()
        self.root.geometry(f"{WIDTH}x{HEIGHT}+0+0")
        self.root.overrideredirect(True)
        self.canvas = tkinter.Canvas(
            self.root, width=WIDTH, height=HEIGHT, background="black", highlightthickness=0
        )
        self.canvas.pack()
        draw = random.Random(seed)
        self.x, self.y = draw.uniform(40, WIDTH - 40), 40.0
        self.dx, self.dy = draw.choice((-3.0, 3.0)), 3.0
        self.bat = (WIDTH - BAT) / 2
        self.held: set[str] = set()
        self.root.bind_all("<KeyPress>", lambda event: self.held.add(event.keysym))
        self.root.bind_all("<KeyRelease>", lambda event: self.held.discard(event.keysym))
        self.root.focus_force()
        self.paint()
        self.root.update()
        print("ready")
        self.root.after(FRAME_MS, self.tick)

    def tick(self) -> None:
        """Moves everything on by one frame."""
        self.bat += 5 * (("Right" in self.held) - ("Left" in self.held))
        self.bat = min(max(self.bat, 0), WIDTH - BAT)
        self.x, self.y = self.x + self.dx, self.y + self.dy
        if not 0 <= self.x <= WIDTH - BALL:
            self.dx = -self.dx
        if self.y <= 0:
            self.dy = -self.dy
        if self.dy > 0 and self.y >= HEIGHT - 10 - BALL:
            if not self.bat - BALL < self.x < self.bat + BAT:
                print("over")
                self.root.destroy()
                return
            self.dy = -self.dy
            print("hit")
        self.paint()
        self.root.after(FRAME_MS, self.tick)

    def paint(self) -> None:
        """Draws ball and bat."""
        self.canvas.delete("all")
        self.canvas.create_oval(self.x, self.y, self.x + BALL, self.y + BALL, fill="white")
        self.canvas.create_rectangle(
            self.bat, HEIGHT - 10, self.bat + BAT, HEIGHT, fill="white", outline=""
        )


if __name__ == "__main__":
    Wall(int(sys.argv[1])).root.mainloop()
